"""What cluster managers and the boot call: datadisk, drbddisk, the init script. Decides when, never how."""
