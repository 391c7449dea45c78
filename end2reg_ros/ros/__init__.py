"""The ROS 2 side: nodes, conversions, TF, parameters, diagnostics. The only folder that imports rclpy."""
