"""Peak memory of a program that a test starts."""

PEAK = '''
def peak():
    """Kilobytes, at the most so far: of this program alone.

    On Linux getrusage also counts what the process was before it became this program: the test's.
    """
    try:
        lines = open("/proc/self/status").read().splitlines()
    except OSError:
        import resource
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1])

'''
