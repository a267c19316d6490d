"""Quality per second: LiquidNet beside rivals, trained alike on the same latents."""
