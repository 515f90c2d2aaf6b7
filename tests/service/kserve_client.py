"""What KServe's own client reads from a service: python kserve_client.py URL MODEL ROWS.npy.

Runs where `kserve` is installed, which is not where the tests run. Prints the outputs as JSON, by
how the tensor was sent and how the outputs were asked for.
"""

import asyncio
import json
import sys
from typing import Any

import numpy as np


async def main(url: str, model: str, path: str) -> None:
    """Ask in every mix of JSON and bytes."""
    import httpx
    from kserve import InferenceRESTClient, InferInput, InferRequest
    from kserve.inference_client import RESTConfig

    rows = np.load(path)
    found: dict[str, Any] = {}
    async with InferenceRESTClient(RESTConfig(protocol="v2")) as client:
        found["live"] = await client.is_server_live(url)
        found["ready"] = await client.is_server_ready(url)
        found["model"] = await client.is_model_ready(url, model)
        found["nope"] = await client.is_model_ready(url, "nope")
        for sent in (True, False):
            for answered in (True, False):
                tensor = InferInput("input", list(rows.shape), "FP32")
                tensor.set_data_from_numpy(rows, binary_data=sent)
                asked = InferRequest(
                    model, [tensor], "mine", parameters={"binary_data_output": answered}
                )
                answer = await client.infer(url, asked, model)
                found[f"{sent} {answered}"] = {
                    "id": answer.id,
                    "outputs": {o.name: o.as_numpy().tolist() for o in answer.outputs},
                }
        wrong = InferInput("image", list(rows.shape), "FP32")
        wrong.set_data_from_numpy(rows)
        try:
            await client.infer(url, InferRequest(model, [wrong]), model)
        except httpx.HTTPStatusError as error:
            found["refused"] = [error.response.status_code, str(error)]
    print(json.dumps(found))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
