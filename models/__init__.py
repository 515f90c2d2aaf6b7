"""Robust models: data, nets, attacks, training, evaluation, bundles, registry."""

import os

# onnxruntime tells its maker about every session and keeps a device id under the home directory
# unless this stands before its import; `disable_telemetry_events()` comes too late for the files.
# Every package of ours imports this one first, and child processes inherit it.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
