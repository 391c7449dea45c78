"""The tracker over a rosbag2, without ROS: python examples/track_a_recording.py CASE BAG

Every cloud goes the way that the node's clouds go; `end2reg track` does the same and writes files.
"""

import sys
from pathlib import Path

from end2reg_ros import End2RegError, Tracker, create_registrar, load_case
from end2reg_ros.apps.track.run import choose_input, track_recording
from end2reg_ros.cloud.limits import CloudLimits
from end2reg_ros.cloud.recording import Recording
from end2reg_ros.registration import RegistrationSettings


def main(case_folder: str, bag: str) -> int:
    case = load_case(case_folder)
    # Each pose waits for the network: the same recording gives the same poses.
    settings = RegistrationSettings(network_passes="every_frame")
    tracker = Tracker(create_registrar("end2reg", case, settings), case)
    poses = 0
    with Recording(Path(bag)) as recording:
        for record in track_recording(recording, choose_input(recording, None), tracker, CloudLimits()):
            seconds, update = record.stamp_ns / 1e9, record.update
            if update is None:
                print(f"{seconds:.3f} dropped: {record.dropped}")
            elif update.published and update.registration is not None:
                x, y, z = 1000 * update.registration.levels[0].T_camera_level[:3, 3]
                print(f"{seconds:.3f} {update.state.name}: {x:.1f} {y:.1f} {z:.1f} mm")
                poses += 1
            else:
                print(f"{seconds:.3f} {update.state.name}: no pose, {update.reason}")
    return 0 if poses else 1


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    try:
        sys.exit(main(*sys.argv[1:]))
    except End2RegError as fault:
        sys.exit(f"track_a_recording: {fault}")
