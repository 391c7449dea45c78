"""What is seen: messages, recordings and files of a depth camera -> ``Cloud``. No ROS import."""
