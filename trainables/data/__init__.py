"""Data sets: ``sources`` finds and parses them (without torch), ``splits`` puts them on the device."""
