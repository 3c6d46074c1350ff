"""`stembridge bench` among the other benchmarks, with its options: python -m benchmarks.machine."""

from host.bench import bench

if __name__ == "__main__":
    bench()
