from array import array

def format_rows(
    timepoints: array[int],
    values: array[int] | array[float],
    tail: bytes,
    block_rows: int,
    memory: memoryview,
    begin: int,
) -> list[tuple[int, int, int, int]] | None: ...
