"""LiquidGenPipeline: a trained model as a diffusers pipeline that draws, saves and publishes."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from inspect import signature

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, ImagePipelineOutput, ModelMixin
from diffusers.callbacks import MultiPipelineCallbacks, PipelineCallback
from torch import Tensor

from liquidgen.compute.precision import autoencoder_dtype
from liquidgen.flow.matching import guided
from liquidgen.flow.solvers import Step, set_timesteps, steps
from liquidgen.generator.draw import Seed, check_finite, usable_guidance
from liquidgen.latents.autoencoder import Autoencoder
from liquidgen.pipeline.arguments import OUTPUT_TYPES, at_least_one, one_of, refuse_others, whole
from liquidgen.pipeline.files import PipelineFiles
from liquidgen.pipeline.labels import Asked, Label, label_tensor, resolve_labels
from liquidgen.pipeline.noise import Generators, noise_source
from liquidgen.pipeline.output import Images, joined, to_output
from liquidgen.utils.errors import UserError

# defaults of the section `sample` in params.yaml (a test compares them)
NUM_INFERENCE_STEPS = 20
GUIDANCE_SCALE = 1.5
EULER_STEPS = 50  # of a pipeline with the first-order scheduler of earlier versions
BATCH_SIZE = 64  # images per call of the network
Callback = Callable[["LiquidGenPipeline", int, Tensor, dict[str, Tensor]], dict[str, Tensor]]


class LiquidGenPipeline(PipelineFiles):
    """A LiquidNet, the autoencoder of its latents and a flow-matching scheduler.

        pipe = LiquidGenPipeline.from_pretrained("data/models/<run>")
        pipe("hills", num_images=4, seed=1).images

    Arguments have the names of diffusers, where it has one: `seed` and `num_images` it has not.

    The names of the components and of `facts`, `scores` and `weights` are keys in model_index.json
    of saved pipelines, as is the module `liquidgen.models.liquidnet`: a renamed one would not load
    them.

    Attributes:
        liquidnet: The network, with EMA weights.
        autoencoder: Of diffusers; the latent contract in `facts` says how it is used.
        scheduler: One that solves flows, see `FLOW_SCHEDULERS`; may be replaced by another.
    """

    model_cpu_offload_seq = "liquidnet->autoencoder"
    _callback_tensor_inputs = ("latents",)

    @property
    def classes(self) -> tuple[str, ...] | None:
        """Names of the classes in the order of their ids; None for an unconditional model."""
        return self._metadata.classes

    @property
    def guidance_scale(self) -> float:
        """Guidance scale of the call that runs; a callback may change `_guidance_scale`."""
        return self._guidance_scale

    @property
    def default_guidance_scale(self) -> float:
        """Guidance scale of a call without one: 1.5, or 1 where nothing can be guided away from."""
        has_null_labels = self.classes is not None and self._metadata.label_dropout > 0
        return GUIDANCE_SCALE if has_null_labels else 1.0

    @property
    def default_num_inference_steps(self) -> int:
        """Steps of a call without them: 20, or 50 by Euler's method, which is of first order."""
        is_euler = isinstance(self.scheduler, FlowMatchEulerDiscreteScheduler)
        return EULER_STEPS if is_euler else NUM_INFERENCE_STEPS

    @property
    def num_timesteps(self) -> int:
        """Calls of the network per image, of the call that runs."""
        return len(self.scheduler.timesteps)

    @property
    def interrupt(self) -> bool:
        """Whether a callback has stopped the call that runs, by `pipe._interrupt = True`."""
        return self._interrupt

    @torch.no_grad()
    def __call__(
        self,
        class_labels: Asked | Sequence[Asked] | None = None,
        *,
        num_images: int | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        seed: int | Sequence[int | Seed] | None = None,
        generator: Generators | None = None,
        latents: Tensor | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
        callback_on_step_end: Callback | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
        batch_size: int = BATCH_SIZE,
        **others: object,
    ) -> ImagePipelineOutput | tuple[Images]:
        """Draw images; image i has class i modulo the number of classes.

        With the same classes, seed, settings and precision the images are those of the stage
        sample.

        Args:
            class_labels: Names or ids of classes; None: all classes of the model. Where a class has
                the number as its name, 3 and "3" are that class, and else the id. A dictionary of
                classes and weights mixes them, by their embeddings.
            num_images: Number of images, over all classes; None: one per class.
            num_inference_steps: Steps of the scheduler; None: 20, or 50 by Euler's method.
            guidance_scale: 1 is off; None: 1.5, or 1 for a model trained without null labels.
            seed: Image i is drawn from (seed, i); or one seed per image: s for (s, 0), or (s, i).
                Without it, a generator and latents it is 0.
            generator: In place of a seed: a generator of torch, or one per image.
            latents: In place of a seed: the noise (N, C, h, w) itself.
            output_type: pil; np: (N, H, W, 3) in [0, 1]; pt: (N, 3, H, W) in [0, 1]; latent: the
                latents, which `decode_latents` makes images of.
            return_dict: False: a tuple of the images alone.
            callback_on_step_end: Called as callback(pipe, step, timestep, tensors) after each call
                of the network in each batch; returns the tensors to go on with. Once it has set
                `pipe._interrupt`, the images begun are returned as they are.
            callback_on_step_end_tensor_inputs: Names of the tensors, of `_callback_tensor_inputs`.
            batch_size: Images per call of the network.
            others: None; arguments of earlier versions are refused; the message has the new name.

        Raises:
            UserError: A class is unknown, a value is out of range, the scheduler solves no flows,
                or the model was trained without the null labels that guidance needs.
        """
        # validate everything before the first step
        refuse_others(others, list(signature(self.__call__).parameters)[:-1])
        labels = self.image_labels(class_labels, num_images)
        if guidance_scale is None:
            guidance_scale = self.default_guidance_scale
        guidance_scale = at_least_one("guidance_scale", guidance_scale)
        guidance_scale = usable_guidance(self._metadata, guidance_scale)
        if num_inference_steps is None:
            num_inference_steps = self.default_num_inference_steps
        num_inference_steps = whole("num_inference_steps", num_inference_steps)
        batch_size = whole("batch_size", batch_size)
        at_least_one("num_inference_steps", num_inference_steps)
        at_least_one("batch_size", batch_size)
        one_of("output_type", output_type, OUTPUT_TYPES)
        if isinstance(callback_on_step_end, PipelineCallback | MultiPipelineCallbacks):
            callback_on_step_end_tensor_inputs = callback_on_step_end.tensor_inputs
        for name in callback_on_step_end_tensor_inputs:
            one_of("callback_on_step_end_tensor_inputs", name, self._callback_tensor_inputs)
        device = self._execution_device
        shape = (len(labels), *self._metadata.contract.latent_shape)
        noise = noise_source(seed, generator, latents, shape, device)
        set_timesteps(self.scheduler, num_inference_steps, device)

        def after_step(step: Step) -> None:
            if callback_on_step_end is not None:
                self._call_back(callback_on_step_end, callback_on_step_end_tensor_inputs, step)
            bar.update()

        self._interrupt = False
        parts: list[Images] = []
        starts = range(0, len(labels), batch_size)
        with self.progress_bar(total=self.num_timesteps * len(starts)) as bar:
            for start in starts:
                batch = slice(start, start + batch_size)
                self._guidance_scale = guidance_scale
                drawn = self._solve(noise(batch), labels[batch], num_inference_steps, after_step)
                as_it_is = output_type == "latent"
                parts.append(drawn if as_it_is else self.decode_latents(drawn, output_type))
                if self._interrupt:
                    break
        self.maybe_free_model_hooks()
        images = joined(parts)
        return ImagePipelineOutput(images=images) if return_dict else (images,)

    def _solve(
        self,
        noise: Tensor,
        labels: Sequence[Label],
        num_inference_steps: int,
        after_step: Callable[[Step], None],
    ) -> Tensor:
        """Draw the latents of a batch; after an interruption they are those of that step."""
        latents = noise
        for step in steps(
            self._velocity,
            noise,
            label_tensor(labels, self.liquidnet.null_label).to(noise.device),
            scheduler=self.scheduler,
            num_inference_steps=num_inference_steps,
        ):
            after_step(step)
            latents = step.latents
            if self._interrupt:
                break
        check_finite(latents, self._metadata, "train it again, or draw in torch.float32")
        return latents

    def _velocity(self, x_t: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        """Return the guided velocity in fp32, whatever the dtype of the network."""

        def velocity(x_t: Tensor, t: Tensor, labels: Tensor) -> Tensor:
            return self.liquidnet(x_t.to(self.liquidnet.dtype), t, labels).float()

        # as in diffusers, a callback turns guidance off by any scale up to 1
        scale = max(self._guidance_scale, 1.0)
        return guided(velocity, self.liquidnet.null_label, scale)(x_t, t, labels)

    def _call_back(self, callback: Callback, names: Sequence[str], step: Step) -> None:
        tensors = {name: getattr(step, name) for name in names}
        returned = callback(self, step.number, step.timestep, tensors)
        if not isinstance(returned, dict):
            found = type(returned).__name__
            raise UserError(f"callback_on_step_end: returned {found}; return the dictionary it got")
        latents = returned.get("latents", step.latents)
        if not isinstance(latents, Tensor) or latents.shape != step.latents.shape:
            shape = tuple(step.latents.shape)
            raise UserError(f"callback_on_step_end: latents must stay a tensor of shape {shape}")
        step.latents = latents.to(step.latents)

    @torch.no_grad()
    def decode_latents(self, latents: Tensor, output_type: str = "pil") -> Images:
        """Decode latents (B, C, h, w), as of `output_type="latent"` or in a callback, to images.

        The autoencoder works in the precision of its settings, as in the stage sample, whatever the
        dtype of the pipeline.
        """
        contract = self._metadata.contract
        model = self.autoencoder
        if hook := getattr(model, "_hf_hook", None):  # of accelerate: it may lie on another device
            hook.pre_forward(model)
        dtype = autoencoder_dtype(contract.autoencoder.precision, self._execution_device)
        with _working_in(model, dtype):
            autoencoder = Autoencoder(model, contract.autoencoder, contract.autoencoder_digest)
            return to_output(autoencoder.decode(contract.denormalize(latents.float())), output_type)

    def image_labels(
        self, class_labels: Asked | Sequence[Asked] | None = None, num_images: int | None = None
    ) -> list[Label]:
        """Return the label of each image that a call with these arguments draws.

        Raises:
            UserError: A class is unknown, a weight is not usable, or there are no images to draw.
        """
        return resolve_labels(class_labels, num_images, self.classes, self.liquidnet.null_label)


@contextmanager
def _working_in(model: ModelMixin, dtype: torch.dtype) -> Iterator[None]:
    """Give a network another dtype for a while; its own weights are kept."""
    tensors = [*model.parameters(), *model.buffers()] if model.dtype != dtype else []
    kept = [(tensor, tensor.data) for tensor in tensors if tensor.is_floating_point()]
    try:
        for tensor, data in kept:
            tensor.data = data.to(dtype)
        yield
    finally:
        for tensor, data in kept:
            tensor.data = data
