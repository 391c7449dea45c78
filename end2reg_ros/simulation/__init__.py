"""Simulated surgery: anatomy, wound, instruments, depth camera and motion, with the truth. Needs no foreign data."""
