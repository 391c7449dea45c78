"""The trained network at run time, behind one interface."""

from __future__ import annotations
