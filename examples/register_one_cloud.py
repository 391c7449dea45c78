"""One case and one cloud to one pose: python examples/register_one_cloud.py CASE CLOUD"""

import sys

from end2reg_ros import End2RegError, create_registrar, load_case, read_cloud


def main(case_folder: str, cloud_file: str) -> int:
    registrar = create_registrar("end2reg", load_case(case_folder))  # seconds; once for a case
    found = registrar.register(read_cloud(cloud_file), None)  # None: no start is known
    if not found.success:
        print(f"no pose: {found.reason}", file=sys.stderr)
        return 1
    for level in found.levels:
        x, y, z = 1000 * level.T_camera_level[:3, 3]
        print(
            f"{level.level}: {x:.1f} {y:.1f} {z:.1f} mm in the camera's frame{' (held)' if level.held else ''}"
        )
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    try:
        sys.exit(main(*sys.argv[1:]))
    except End2RegError as fault:
        sys.exit(f"register_one_cloud: {fault}")
