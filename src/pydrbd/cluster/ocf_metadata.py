"""What Pacemaker's tools read of the OCF agent: parameters, actions and their time-outs (OCF API 1.1, `meta-data`)."""

from __future__ import annotations

from pydrbd import __version__
from pydrbd.cluster.ocf import DEFAULT_SCORES

METADATA = f"""<?xml version="1.0"?>
<!DOCTYPE resource-agent SYSTEM "ra-api-1.dtd">
<resource-agent name="drbd" version="{__version__}">
<version>1.1</version>
<longdesc lang="en">
A replicated block device by pydrbd, DRBD in userspace, as a promotable clone: an instance on each node keeps the two
disks equal, and the promoted one offers the device. Use it with promotable=true, promoted-max=1, clone-max=2 and
notify=true.
</longdesc>
<shortdesc lang="en">A block device replicated by pydrbd</shortdesc>
<parameters>
<parameter name="resource" unique="1" required="1">
<longdesc lang="en">The resource's name in drbd.conf.</longdesc>
<shortdesc lang="en">resource</shortdesc>
<content type="string"/>
</parameter>
<parameter name="config">
<longdesc lang="en">The configuration file.</longdesc>
<shortdesc lang="en">drbd.conf</shortdesc>
<content type="string" default="/etc/drbd.conf"/>
</parameter>
<parameter name="promotion_scores">
<longdesc lang="en">
Four promotion scores: of a node whose data are only consistent; that has no data of its own but an UpToDate peer; that
is UpToDate and does not see its peer; that is UpToDate and sees it, or is Primary already.
</longdesc>
<shortdesc lang="en">promotion scores</shortdesc>
<content type="string" default="{DEFAULT_SCORES}"/>
</parameter>
</parameters>
<actions>
<action name="start" timeout="240s"/>
<action name="promote" timeout="90s"/>
<action name="demote" timeout="90s"/>
<action name="notify" timeout="90s"/>
<action name="stop" timeout="100s"/>
<action name="monitor" role="Unpromoted" timeout="20s" interval="20s"/>
<action name="monitor" role="Promoted" timeout="20s" interval="10s"/>
<action name="meta-data" timeout="5s"/>
<action name="validate-all" timeout="20s"/>
</actions>
</resource-agent>
"""
