"""The HTTP service and the command line."""

import models as models  # before any dependency: it keeps onnxruntime from reporting
