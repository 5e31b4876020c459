"""Networks in use: exported, run by ONNX Runtime, watched while they predict."""
