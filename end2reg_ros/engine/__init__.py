"""The trained network at run time, behind one interface."""

from __future__ import annotations

import os

# ONNX Runtime 1.29 and later sends the host's data to its maker unless told not to, before it is first imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
