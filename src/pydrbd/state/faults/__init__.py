"""What goes wrong and what is done about it: fencing, suspended I/O, disks given up, who hears of it."""
