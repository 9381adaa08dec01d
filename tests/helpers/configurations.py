"""Configurations that several tests read. `SEED` is a 0.6 file as users have it."""

SEED = """\
resource drbd0 {
  protocol = C
  fsckcmd = /usr/bin/true

  on castor {
    device  = /dev/nb0
    disk    = /dev/md3
    address = 10.0.0.1
    port    = 7788
  }

  on pollux {
    device  = /dev/nb0
    disk    = /dev/md3
    address = 10.0.0.2
    port    = 7788
  }
}
"""

SEED_IN_84 = """\
resource drbd0 {
  net { protocol C; }
  fsckcmd /usr/bin/true;
  device /dev/nb0;
  disk /dev/md3;
  meta-disk file;
  on castor { address 10.0.0.1:7788; }
  on pollux { address 10.0.0.2:7788; }
}
"""

R0 = """\
resource r0 {
  device /dev/drbd0;
  disk /dev/vdb;
  meta-disk internal;
  on castor { address 10.0.0.1:7788; }
  on pollux { address 10.0.0.2:7788; }
}
"""
