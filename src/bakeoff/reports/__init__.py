"""How results look: figures and pages. No torch, no model, only what files hold."""
