"""Prediction of new files with a trained run, for every kind of experiment."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from fewpairs.data.files import left_out_notes
from fewpairs.data.pictures import is_image, list_images, read_header, turned_notes
from fewpairs.data.progress import remark, track
from fewpairs.errors import DataError, FewpairsError, InputError
from fewpairs.folder_lock import lock_folder
from fewpairs.kinds.predictor import Failure, OutputFolder, Prediction, Predictor, Source
from fewpairs.safe_text import same_file
from fewpairs.writing import check_inside

S = TypeVar("S", bound=Source)
P = TypeVar("P", bound=Prediction)
T = TypeVar("T")
R = TypeVar("R")


class PredictionError(FewpairsError):
    """Error after some files failed (exit status 1); `written` lists the predictions of the others."""

    def __init__(
        self,
        failures: Sequence[Failure],
        written: Sequence[Prediction],
        *,
        noun: str = "picture",
        kept: str = "the other {} are written",
    ) -> None:
        self.failures, self.written = tuple(failures), tuple(written)
        lines = "".join(f"\n  {failure.message}" for failure in failures)
        rest = f"; {kept.format(len(written))}" if written else ""
        total = len(failures) + len(written)
        super().__init__(f"{len(failures)} of {total} {noun}{'s' if total != 1 else ''} failed{rest}:{lines}")


def predict_files(
    predictor: Predictor[S, T, R, P], inputs: Sequence[Path | str], output: OutputFolder, *, progress: bool = True
) -> list[P]:
    """Predict files and folders; write the predictions, then the records of all of them.

    Inputs and outputs are checked before the first file is read.

    Raises:
        InputError: there are no images, two inputs have one name, an output exists already or is an input, or another
            process predicts into the folder.
        PredictionError: files cannot be read or written; raised after the others are done.
    """
    sources = predictor.find(inputs)
    _check(predictor, sources, output)
    _tell_left_out(inputs, sources)
    with lock_folder(output.folder, "predicting"):
        _check(predictor, sources, output)  # another process may have ended since
        return _predicted(predictor, sources, output, progress)


def _predicted(predictor: Predictor[S, T, R, P], sources: Sequence[S], output: OutputFolder, progress: bool) -> list[P]:
    written: list[P] = []
    failures: list[Failure] = []
    size = predictor.read_at_once
    batches = [sources[start : start + size] for start in range(0, len(sources), size)]
    for batch in track(batches, predictor.doing, enabled=progress):
        read: list[tuple[S, T]] = []
        for source in batch:
            with _collected(failures, source):
                read.append((source, predictor.read(source)))
        results = predictor.predict([image for _, image in read]) if read else []
        for (source, image), result in zip(read, results, strict=True):
            with _collected(failures, source):
                written.append(predictor.write(source, image, result, output))
    remark(turned_notes(_turned(sources, failures), shown=1))
    predictor.finish(written, failures, output)
    if failures:
        raise PredictionError(failures, written, noun=predictor.noun, kept=predictor.kept)
    return written


@contextmanager
def _collected(failures: list[Failure], source: Source) -> Iterator[None]:
    """Add a DataError in the block to the failures."""
    try:
        yield
    except DataError as error:
        failures.append(Failure(source.files, str(error), source.id))


def _turned(sources: Sequence[Source], failures: Sequence[Failure]) -> dict[str, int]:
    """Return the EXIF orientation of each picture that has one."""
    broken = {file for failure in failures for file in failure.inputs}
    files = [file for source in sources for file in source.files if file not in broken and is_image(file.name)]
    tags = ((file.name, read_header(file, stack=True).orientation) for file in files)
    return {name: tag for name, tag in tags if tag != 1}


def _tell_left_out(inputs: Sequence[Path | str], sources: Sequence[Source]) -> None:
    """Name the files in input folders that are no source."""
    taken = {file.resolve() for source in sources for file in source.files}
    for folder in (Path(given) for given in inputs if Path(given).is_dir()):
        tree = list_images(folder)
        others = [name for name in (*tree.images, *tree.others) if (folder / name).resolve() not in taken]
        remark(left_out_notes(others, f"files in {folder} that are not predicted"))


def _check(predictor: Predictor[S, T, R, P], sources: Sequence[S], output: OutputFolder) -> None:
    """Raise InputError if an output would replace an input, another output or an existing file."""
    if output.folder.exists() and not output.folder.is_dir():
        raise InputError(f"{output.folder} is a file; name a folder for the results")
    files = predictor.shared_outputs(sources, output)
    makers = {same_file(str(path)): "the records" for path in files}
    for source in sources:
        name = str(source.files[0])
        for path in predictor.outputs(source, output):
            files.append(path)
            if (other := makers.setdefault(same_file(str(path)), name)) != name:
                raise InputError(f"{name} and {other} would both become {path}; predict them separately")
    check_inside(output.folder, files)
    inputs = {file.resolve() for source in sources for file in source.files}
    for path in files:
        if path.resolve() in inputs:
            raise InputError(f"{path} is one of the {predictor.noun}s and would be overwritten; choose another folder")
    there = [path for path in files if path.exists()]
    if there and not output.overwrite:
        are = f" and {len(there) - 1} more exist" if len(there) > 1 else " exists"
        raise InputError(f"{there[0]}{are} already; choose another folder, or replace with --overwrite")
