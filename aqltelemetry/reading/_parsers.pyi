import numpy as np
import numpy.typing as npt

class LabelTable:
    def __len__(self) -> int: ...
    def fields(self, first: int) -> list[bytes]: ...

def parse_rows(
    rows: bytearray,
    start: int,
    end: int,
    labels: LabelTable,
    timepoints: npt.NDArray[np.int64],
    measurements: npt.NDArray[np.float64],
    label_codes: npt.NDArray[np.int32],
    pids: npt.NDArray[np.int64],
    pid_rows: npt.NDArray[np.int64],
    first: int,
) -> tuple[int, int] | None: ...
def parse_files(
    directory_fd: int,
    names: list[bytes],
    header: bytes,
    labels: LabelTable,
    timepoints: npt.NDArray[np.int64],
    measurements: npt.NDArray[np.float64],
    label_codes: npt.NDArray[np.int32],
    pids: npt.NDArray[np.int64],
    pid_rows: npt.NDArray[np.int64],
    ends: npt.NDArray[np.int64],
    pid_ends: npt.NDArray[np.int64],
) -> int: ...
def total_bytes(directory_fd: int, names: list[bytes]) -> int: ...
