"""SWD and MS-SSIM of the averaged generator during a run."""

from progan_service.data.dataset import Dataset
from progan_service.evaluation.measure import fake_inputs, measure_reals
from progan_service.evaluation.report import Evaluation, Reference
from progan_service.model.networks import Generator
from progan_service.training.config import RunConfig
from progan_service.training.run.samples import draw_samples
from progan_service.training.stage import Phase


class RunMetrics:
    """Evaluates the averaged generator at every tick. The reals are measured once for each resolution."""

    def __init__(self, dataset: Dataset, config: RunConfig) -> None:
        self._dataset, self._config = dataset, config
        self._reference: Reference | None = None

    def evaluate(self, generator: Generator, phase: Phase) -> Evaluation:
        """Compare `metric_images` fakes with as many reals. The latents are the same at every tick."""
        network, training = self._config.network, self._config.training
        if self._reference is None or self._reference.resolution != phase.resolution:
            self.close()
            self._reference = self._measure_reals(phase.resolution)
        inputs = fake_inputs(
            self._dataset,
            network.latents,
            network.label_size,
            count=training.metric_images,
            seed=training.seed,
        )
        return self._reference.evaluate(draw_samples(generator, *inputs, phase))

    def _measure_reals(self, resolution: int) -> Reference:
        training = self._config.training
        return measure_reals(
            self._dataset,
            resolution,
            image_count=training.metric_images,
            seed=training.seed,
            mirror=training.mirror,
        )

    def close(self) -> None:
        """Remove the temporary files of the reals."""
        if self._reference is not None:
            self._reference.close()
            self._reference = None
