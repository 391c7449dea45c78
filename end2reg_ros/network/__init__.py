"""End2Reg in PyTorch: segmentation, registration, losses. For training and export; imported by nothing at run time."""
