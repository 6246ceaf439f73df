"""From rosbags of an expert's flights to a trained policy."""
