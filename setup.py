"""Entry point for pip; everything is declared in pyproject.toml. ROS workspaces build with CMakeLists.txt instead."""

from setuptools import setup

setup()
