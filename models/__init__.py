"""Robust models: data, nets, attacks, training, evaluation, bundles, registry."""

import os

# onnxruntime tells its maker about every session and keeps a device id under the home directory
# unless this stands before its import; `disable_telemetry_events()` comes too late for the files.
# Only this package imports it, and child processes inherit the variable.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
