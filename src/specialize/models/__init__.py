"""A small Mixture-of-Experts language model whose routing can be varied, and its training.

Importing this package registers the model with the Auto classes of transformers, so that
``AutoModelForCausalLM.from_pretrained`` loads its checkpoints.
"""

from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

from specialize.models.configuration import GPTMoEConfig
from specialize.models.modeling import GPTMoEForCausalLM, GPTMoEModel, GPTMoEOutput

AutoConfig.register(GPTMoEConfig.model_type, GPTMoEConfig, exist_ok=True)
AutoModel.register(GPTMoEConfig, GPTMoEModel, exist_ok=True)
AutoModelForCausalLM.register(GPTMoEConfig, GPTMoEForCausalLM, exist_ok=True)

__all__ = ["GPTMoEConfig", "GPTMoEForCausalLM", "GPTMoEModel", "GPTMoEOutput"]
