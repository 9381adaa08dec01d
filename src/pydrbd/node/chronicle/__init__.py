"""What people may ask later: who began which generation, what was decided and why. No rule ever asks it."""
