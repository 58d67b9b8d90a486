"""Pictures in, files out: what one call of `depthkd predict` makes, and what it says of it."""

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter
from typing import NoReturn

import numpy as np
from tqdm import tqdm

from depthkd.batch import METRIC_DEPTH, DepthSpace
from depthkd.errors import UserError
from depthkd.formats.depth import Number
from depthkd.formats.sample import BadSample
from depthkd.formats.whole_files import whole_file, writing
from depthkd.models.inference import batches, says_nothing
from depthkd.resolution import Resolution, size_range
from depthkd.shapes import OneMap
from depthkd.verbs.predict.cameras import Cameras, told
from depthkd.verbs.predict.forms import FORMS, VIDEO, Prediction, named
from depthkd.verbs.predict.network import Answer, Predictor, group_of
from depthkd.verbs.predict.pictures import Done, Frames, Photographs, Picture, Source
from depthkd.verbs.predict.record import Record
from depthkd.verbs.predict.smoothing import Smoother
from depthkd.verbs.predict.video import DepthVideo


@dataclass
class Predictions:
    """What `predict` made.

    Attributes:
        arrays: the .npy files, those of an earlier call among them.
        left_out: a sentence for each image that has no prediction.
        empty: one for each whose prediction says nothing.
        unwritten: one for each file that its format cannot hold; the picture's others are there.
        doubted: one for each whose prediction is written, and should not be trusted.
        files: all files, those of an earlier call among them.
        kept: how many images were there already.
    """

    arrays: list[Path] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)
    unwritten: list[str] = field(default_factory=list)
    doubted: list[str] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)
    kept: int = 0


@dataclass
class Maker:
    """All that is made by one call."""

    predictor: Predictor
    record: Record
    cameras: Cameras
    asked: list[str] | None
    forms: list[str]
    batch_size: int
    farthest: Number
    smooth: Number | None
    at: Resolution
    made: Predictions
    sizes: list[tuple[int, int] | None] = field(default_factory=list)
    clouds: Counter[str] = field(default_factory=Counter)
    written: int = 0
    alone: bool = False
    progress: "tqdm[NoReturn]" = field(init=False)

    @property
    def space(self) -> DepthSpace:
        """What depth means."""
        return self.predictor.network.space

    def __call__(self, sources: list[Source]) -> None:
        """Predict; what is written is noted whatever happens."""
        for sentence in self.made.left_out:
            print(f"left out: {sentence}")
        given = {path.resolve() for source in sources for path in source.paths()}
        for source in sources:
            self._check(source, given)
        counts = [source.count for source in sources]
        self.alone = counts == [1]
        total = None if None in counts else sum(count or 0 for count in counts)
        start = perf_counter()
        self.record.begin()
        try:
            with tqdm(total=total, desc="predict", unit="image", disable=None) as self.progress:
                for source in sources:
                    self._source(source)
        except BaseException:
            with suppress(UserError):  # a disk that is full has been told of
                self._note()
            raise
        self._note()
        self._tell(perf_counter() - start)

    def forms_of(self, source: Source) -> list[str]:
        """The formats of each picture of a source."""
        if source.video is None:
            return [word for word in self.forms if word != VIDEO]
        return [word for word in self.asked or () if word != VIDEO]

    def films(self, source: Source) -> bool:
        """Whether a video is made of a source."""
        return source.video is not None and (self.asked is None or VIDEO in self.asked)

    def files(self, forms: list[str], name: str) -> list[str]:
        """The files of a picture."""
        return [file for word in forms for file in FORMS[word].names(name)]

    def _check(self, source: Source, given: set[Path]) -> None:
        """Check that something is made of a source, and that no file of the user's is overwritten."""
        forms = self.forms_of(source)
        if not forms and not self.films(source):
            raise UserError(
                f"the format {VIDEO} is of videos alone; {source.paths()[0]} gets another, such as side"
            )
        files = [self.film_of(source)] if self.films(source) else []
        if isinstance(source, Photographs):
            files += [file for _, name in source.files for file in self.files(forms, name)]
        for file, count in Counter(files).items():
            place = self.record.out / file
            if place.resolve() in given:
                raise UserError(
                    f"{place} is one of the files to read, and would be overwritten: choose another --out"
                )
            if count > 1:
                raise UserError(f"results of two images would both be {place}: predict one at a time")

    def film_of(self, source: Source) -> str:
        """The file of a source's video."""
        return f"{source.name}.mp4"

    def _source(self, source: Source) -> None:
        """Predict one source's pictures."""
        forms = self.forms_of(source)
        if not isinstance(source, Frames) or not (self.films(source) or self.smooth is not None):
            self._pictures(source, forms, lambda name, stamp: self._is_done(forms, name, stamp), None, None)
            return
        files, stamp = [self.film_of(source)] if self.films(source) else [], source.stamp
        frames = self._frames_of(source, forms) if self.smooth is not None else []
        whole = self.record.is_done(f"{source.name}/", stamp, [*files, *frames])
        smoother = None if self.smooth is None else Smoother(self.space, self.smooth)
        before = len(self.made.left_out)
        with ExitStack() as stack:
            film = None
            if files and not whole:
                path = self.record.out / files[0]
                film = stack.enter_context(DepthVideo(path, source.video.rate, self.space))

            def done(name: str, stamp: str) -> bool:  # frames go by those before them: all are made, or none
                return whole and self._is_done(forms, name, stamp)

            self._pictures(source, forms, done, film, smoother)
        self.made.files += [self.record.out / file for file in files if (self.record.out / file).is_file()]
        if len(self.made.left_out) == before:
            frames = self._frames_of(source, forms) if self.smooth is not None else []
            self.record.add(f"{source.name}/", stamp, [*files, *frames])

    def _frames_of(self, source: Frames, forms: list[str]) -> list[str]:
        """The files of all frames of a video that the record knows: smoothed, they belong together."""
        below = f"{source.name}/"
        names = [name for name in self.record.entries if name.startswith(below) and name != below]
        return [file for name in names for file in self.files(forms, name)]

    def _is_done(self, forms: list[str], name: str, stamp: str) -> bool:
        return self.record.is_done(name, stamp, self.files(forms, name))

    def _pictures(
        self,
        source: Source,
        forms: list[str],
        done: Done,
        film: DepthVideo | None,
        smoother: Smoother | None,
    ) -> None:
        """Predict pictures, and write what is made of each."""
        for group in batches(self._readable(source, forms, done), self.batch_size, group_of):
            for picture, answer in zip(group, self.predictor(group), strict=True):
                self.progress.update()
                if isinstance(answer, Answer):
                    if smoother is not None:
                        answer = replace(answer, depth=smoother(answer.depth))
                    self._picture(picture, answer, forms, film)
                elif self.alone:
                    raise UserError(f"{picture.title}: {answer}")
                else:
                    self._leave_out(f"{picture.title}: {answer}")

    def _readable(self, source: Source, forms: list[str], done: Done) -> Iterator[Picture]:
        """Pictures to predict; the others are told of."""
        for found in source.pictures(done, self.cameras):
            if isinstance(found, Picture):
                yield found
                continue
            if isinstance(found, BadSample):
                self._leave_out(str(found))
            else:
                self.made.kept += 1
                self._count(self.files(forms, found), found)
            self.progress.update()

    def _picture(self, picture: Picture, answer: Answer, forms: list[str], film: DepthVideo | None) -> None:
        """Write what is made of one picture, and note it."""
        depth = answer.depth
        height, width = int(picture.image.shape[0]), int(picture.image.shape[1])
        self.sizes.append(self.predictor.network.runs_at(height, width, self.at))
        nothing = self._nothing(depth)
        if nothing:
            self.made.empty.append(f"{picture.title}: the model answers with {nothing}")
            tqdm.write(self.made.empty[-1])
        if answer.doubt:
            self.made.doubted.append(f"{picture.title}: {answer.doubt}")
            tqdm.write(self.made.doubted[-1])
        values = np.ascontiguousarray(depth[0].float().cpu().numpy())
        in_space = any(FORMS[word].cloud for word in forms)
        camera = self.predictor.camera_of(picture) if in_space else picture.camera
        prediction = Prediction(picture.image, values, self.space, camera, self.farthest, picture.title)
        try:
            files = self._write(picture.name, prediction, forms)
        except BadSample as error:
            self._leave_out(str(error))
            return
        if film is not None:
            film.add(picture.image, values)
        if in_space:
            self.clouds[camera.source] += 1
        facts = {"source": picture.title, "size": [height, width], "camera": camera.record()}
        more: dict[str, object] = {} if picture.time is None else {"time": picture.time}
        more |= {"empty": nothing} if nothing else {}
        more |= {"doubt": answer.doubt} if answer.doubt else {}
        self.record.add(picture.name, picture.stamp, files, **facts, **more, **prediction.notes)
        self.written += 1
        self._count(files, picture.name)

    def _write(self, name: str, prediction: Prediction, forms: list[str]) -> list[str]:
        """All files of one picture, but for those that cannot hold it.

        Raises:
            BadSample: there are no others.
        """
        made: dict[str, bytes] = {}
        refusals: dict[str, str] = {}
        for word in forms:
            for pattern, encode in FORMS[word].files.items():
                try:
                    made[named(pattern, name)] = encode(prediction)
                except UserError as error:
                    if word != "png16":
                        raise
                    refusals[named(pattern, name)] = f"{prediction.source}: {error}"
        if refusals and not made:
            raise BadSample(next(iter(refusals.values())))
        for file, sentence in refusals.items():
            with writing(self.record.out / file):  # one of an earlier prediction is not this one's
                (self.record.out / file).unlink(missing_ok=True)
            self.made.unwritten.append(f"{sentence}; npy, npz and exr hold every value")
            tqdm.write(f"no file of 16 bits: {self.made.unwritten[-1]}")
        for file, data in made.items():
            with whole_file(self.record.out / file, sync=False) as opened:
                opened.write(data)
        return list(made)

    def _nothing(self, depth: OneMap) -> str | None:
        """What a prediction consists of, where that is not depth."""
        nothing = says_nothing(depth, self.space)
        none = nothing is None and self.space == METRIC_DEPTH and not bool((depth > 0).any())
        return "no depth above 0 m" if none else nothing

    def _count(self, files: list[str], name: str) -> None:
        """Note the files of a picture that is made, now or before."""
        paths = [self.record.out / file for file in files]
        self.made.files += paths
        self.made.arrays += [path for path in paths if path.suffix == ".npy"]
        entry = self.record.entries.get(name, {})
        if name in self.record.made:
            return
        if "empty" in entry:
            self.made.empty.append(f"{entry.get('source', name)}: the model answers with {entry['empty']}")
        if "doubt" in entry:
            self.made.doubted.append(f"{entry.get('source', name)}: {entry['doubt']}")

    def _leave_out(self, sentence: str) -> None:
        self.made.left_out.append(sentence)
        tqdm.write(f"left out: {sentence}")

    def _note(self) -> None:
        self.record.save()
        if "tum" in self.forms:
            self.record.write_tum_lists()

    def _tell(self, seconds: float) -> None:
        """Print what was made."""
        sentence = told(self.clouds)
        if sentence:
            print(sentence)
        if self.made.kept:
            print(f"kept: {self.made.kept} predictions of an earlier call; --overwrite true makes them anew")
        if self.sizes:
            sizes = size_range(self.sizes)
            at = "a size of its own" if sizes == "own" else f"{sizes} pixels"
            print(f"run at {at}, {self.written / max(seconds, 1e-9):.3g} images/s")
        if self.made.doubted:
            print(f"doubtful: {len(self.made.doubted)} of them, as {self.record.path} says")
        whole = self.written + self.made.kept
        print(f"{whole} of {whole + len(self.made.left_out)} images, {self.space}: {self.record.out}")
