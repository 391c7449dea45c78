"""The depth camera: sensors and placements, what an ideal one sees, its faults, and its messages as bytes."""
