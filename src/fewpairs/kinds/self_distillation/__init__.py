"""Self-distillation (DINO): pictures without labels -> crops -> student and teacher -> features -> neighbours."""
