import subprocess
import sys


def test_the_age_counts_from_the_start_of_the_process():
    program = (
        "import time; time.sleep(0.5); from app.report.age import age_s\n"
        "first = age_s(); time.sleep(0.2); print(first, age_s())"
    )
    first, second = map(float, subprocess.check_output([sys.executable, "-c", program]).split())
    assert first >= 0.49
    assert second - first >= 0.19
