/* core_values.h - what crosses the border between the data plane and the control plane: options, enumerations, facts.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * cffi reads this file as its cdef, byte for byte, before core_api.h, so it holds plain declarations and
 * `#define N 64` only.
 *
 * Results are 0 or a negative errno.  A `sector` is 512 bytes.  Times are milliseconds. */

#define CORE_PAYLOAD_MAX 512 /* bytes of the largest control packet; a longer one loses the peer before it is read */
#define CORE_FACT_BATCH 64
#define CORE_UBLK_DEPTH_MAX 256
#define CORE_BLOCK_BYTES_MIN 512

enum core_io { CORE_IO_AUTO = 0, CORE_IO_URING = 1, CORE_IO_THREADS = 2 };

struct core_options {
    uint32_t io;          /* enum core_io */
    uint32_t requests;    /* write and read parts in flight, at most */
    uint64_t pool_bytes;  /* payload memory, allocated and touched at start */
    uint32_t lock_memory; /* 1: mlock the pool */
    uint32_t spin_us;     /* look for work this long before sleeping; 0: sleep at once */
};

/* What a disk is, after the control plane has opened, read and checked it.  The engine takes both descriptors over. */
struct core_disk {
    int32_t data_fd;          /* backing disk, read and write, O_DIRECT where it can */
    int32_t md_fd;            /* metadata, or -1: no activity log, no bitmap on disk (a stand-alone export) */
    uint64_t size_sectors;    /* of the replicated device: what the export offers */
    uint64_t al_offset_bytes; /* on md_fd */
    uint32_t al_blocks;       /* 4 KiB transaction slots in the ring: al_stripes * al_stripe_size_4k */
    uint32_t al_stripes;
    uint32_t al_stripe_size_4k;
    uint32_t al_extents;         /* hot extents at most; 0: no activity log (al-updates no) */
    uint32_t al_sequence;        /* number of the first transaction to write; the ring on disk is initialised */
    uint32_t flush;              /* 1: disk-flushes yes */
    uint64_t bm_offset_bytes;    /* on md_fd */
    uint64_t bm_bytes;           /* room for the bitmap, a multiple of 4096 */
    uint32_t timeout_ms;         /* an operation under way for longer is given up: CORE_DISK_TIMEOUT; 0: never */
    uint32_t rs_discard_sectors; /* as target: areas so large are discarded where the source has zeroes; 0: none are */
};

struct core_peer {
    int32_t data_fd; /* connected, handshake up to CONNECTION_FEATURES and authentication done, nothing unread */
    int32_t meta_fd;
    uint32_t agreed_version; /* 100 or 101 */
    uint32_t features;       /* both sides' bits: 1 TRIM, 2 THIN_RESYNC, 4 WSAME, 8 WZEROES */
    uint32_t ping_int_ms;
    uint32_t ping_timeout_ms;
    uint32_t
        timeout_ms; /* a write not acknowledged for timeout_ms * ko_count loses the peer; a send stuck as long, too */
    uint32_t ko_count;       /* 0: never */
    uint32_t max_epoch_size; /* writes in one epoch at most */
    uint32_t max_buffers;    /* 4 KiB pages that the peer may have us hold */
    uint32_t verify_alg;     /* enum core_digest, each: what both nodes are configured for */
    uint32_t csums_alg;
    uint32_t integrity_alg;
    uint32_t congestion_fill_sectors; /* protocol A: so much not known stable is CORE_FACT_CONGESTED; 0: never */
    uint32_t congestion_extents;      /* so many active extents are, too; 0: never */
};

/* verify-alg, csums-alg, data-integrity-alg. */
enum core_digest {
    CORE_DIGEST_NONE = 0,
    CORE_DIGEST_CRC32C = 1,
    CORE_DIGEST_MD5 = 2,
    CORE_DIGEST_SHA1 = 3,
    CORE_DIGEST_SHA256 = 4,
    CORE_DIGEST_SHA384 = 5,
    CORE_DIGEST_SHA512 = 6
};

/* Where a write goes besides the local disk. */
enum core_replication {
    CORE_REPLICATE_NONE = 0,        /* nowhere: its bits are set, durable by the activity log, before the reply */
    CORE_REPLICATE_PEER = 1,        /* to the peer, acknowledged by the wire protocol in force */
    CORE_REPLICATE_OUT_OF_SYNC = 2, /* its bits are set and the peer is told so (WFBitMapS) */
    CORE_REPLICATE_AHEAD = 3        /* its bits are set, and the peer is told later (core_bitmap_announce) */
};
/* Where a read is served from. */
enum core_reads {
    CORE_READS_LOCAL = 0,
    CORE_READS_IN_SYNC = 1, /* Inconsistent: locally where no bit is set, else from the peer */
    CORE_READS_PEER = 2,    /* Diskless */
    CORE_READS_NONE = 3,    /* no data accessible: -EIO */
    CORE_READS_BALANCED = 4 /* both disks are good: by core_read_balancing */
};
/* Of two good disks, which one a read is served from: the last five stripe the device by so many KiB. */
enum core_read_balancing {
    CORE_BALANCE_PREFER_LOCAL = 0,
    CORE_BALANCE_PREFER_REMOTE = 1,
    CORE_BALANCE_ROUND_ROBIN = 2,
    CORE_BALANCE_LEAST_PENDING = 3,
    CORE_BALANCE_WHEN_CONGESTED_REMOTE = 4,
    CORE_BALANCE_STRIPING_32K = 5,
    CORE_BALANCE_STRIPING_64K = 6,
    CORE_BALANCE_STRIPING_128K = 7,
    CORE_BALANCE_STRIPING_256K = 8,
    CORE_BALANCE_STRIPING_512K = 9,
    CORE_BALANCE_STRIPING_1M = 10
};
/* What the export lets through. */
enum core_gate {
    CORE_GATE_OPEN = 0,
    CORE_GATE_FIRST_WRITE = 1, /* hold writes at the first one and say CORE_FACT_FIRST_WRITE; reads go on */
    CORE_GATE_SUSPENDED = 2,   /* hold reads and writes, and answers that core_release would give */
    CORE_GATE_FAIL = 3         /* -EIO for what is held and what comes: the export is being taken away */
};
/* What the peer may ask of us; a packet that is not allowed loses the peer with CORE_LOST_PROTOCOL. */
#define CORE_ACCEPT_WRITES 1 /* DATA, TRIM, ZEROES: the peer is Primary and we have a disk */
#define CORE_ACCEPT_READS 2  /* DATA_REQUEST, and RS_DATA_REQUEST of a block that it mends: our disk is UpToDate */
#define CORE_ACCEPT_RESYNC 4 /* RS_DATA_, RS_THIN_, CSUM_RS_REQUEST: we are SyncSource (a paused source included) */
#define CORE_ACCEPT_BITMAP 8 /* BITMAP, COMPRESSED_BITMAP: WFBitMapS or WFBitMapT */
#define CORE_ACCEPT_OUT_OF_SYNC 16
#define CORE_ACCEPT_VERIFY 32 /* OV_REQUEST: we are VerifyT */

/* Which end of a resync we are, and how a target asks. */
enum core_resync {
    CORE_RESYNC_SOURCE = 0,
    CORE_RESYNC_TARGET = 1,
    CORE_RESYNC_TARGET_BY_CHECKSUMS = 2 /* with the digest of what it has: what is equal is not sent */
};

enum core_socket { CORE_SOCKET_DATA = 0, CORE_SOCKET_META = 1 };

enum core_fact_type {
    CORE_FACT_DONE = 1,        /* token, result */
    CORE_FACT_PACKET = 2,      /* socket, command, volume, payload; from the data socket: reading has stopped */
    CORE_FACT_PEER_LOST = 3,   /* result = enum core_lost; a = writes held for an ack, b = writes not known stable */
    CORE_FACT_FIRST_WRITE = 4, /* the gate CORE_GATE_FIRST_WRITE has closed */
    CORE_FACT_BITMAP_RECEIVED = 5, /* the peer's bitmap is merged into ours; a = bits set now; reading has stopped */
    CORE_FACT_RESYNC_DONE = 6, /* we are target: no bit left that can be mended, data flushed, bitmap written; a = bits
                                  left; by checksums: b = bits that were equal, result = their part in percent; else
                                  result = -1, b = bits that the source called deallocated, zero here now */
    CORE_FACT_DISK_FAILED =
        7, /* result = -errno, a = sector, b = enum core_disk_op; undecided writes wait for core_detach */
    CORE_FACT_PEER_DISK_FAILED = 8, /* a NEG_ACK or NEG_DREPLY came; a = sector */
    CORE_FACT_CLIENTS = 9,          /* a = export clients in transmission now; b = their number ever */
    CORE_FACT_DIED = 10,            /* result = -errno: the thread has ended by an error of its way to the kernel */
    CORE_FACT_VERIFY_DONE =
        11, /* a = bits found out of sync, written to disk; result 0: all is compared; -ECANCELED: stopped, or the peer
               is lost; another -errno: blocks are missing; source: b = the sector before which all is compared */
    CORE_FACT_OUT_OF_SYNC = 12,   /* found by a verify: a = sector, b = sectors */
    CORE_FACT_DIGEST_FAILED = 13, /* the peer's data came damaged: a = sector, b = sectors; PEER_LOST follows */
    CORE_FACT_CONGESTED = 14, /* the link is slower than the writes: core_peer; each second; a = sectors in flight */
    CORE_FACT_PARKED = 15,    /* a = a socket, the reader's from now on; b = CORE_PARKED_*; payload: what had come of
                                its next request */
    CORE_FACT_MENDED = 16     /* what our disk could not read (a = sector, b = sectors) it has again, durably; -ENODATA:
                                 the peer cannot read it either; -ECANCELED: called off */
};
#define CORE_PARKED_STRUCTURED 1 /* structured replies were negotiated */
#define CORE_PARKED_DEVICE 2     /* core_export_device */
enum core_lost {
    CORE_LOST_CLOSED = 1,
    CORE_LOST_BROKEN = 2,
    CORE_LOST_PING = 3,
    CORE_LOST_TIMEOUT = 4,
    CORE_LOST_PROTOCOL = 5,
    CORE_LOST_ORDERED = 6 /* core_peer_disconnect */
};
enum core_disk_op {
    CORE_DISK_READ = 0,
    CORE_DISK_WRITE = 1,
    CORE_DISK_FLUSH = 2,
    CORE_DISK_METADATA = 3,
    CORE_DISK_TIMEOUT = 4
};

struct core_fact {
    uint32_t type; /* enum core_fact_type */
    int32_t result;
    uint64_t token;
    uint64_t a;
    uint64_t b;
    uint32_t socket; /* enum core_socket */
    uint16_t command;
    uint16_t volume;
    uint32_t length; /* bytes of payload */
    uint8_t payload[512];
};

/* Running sums since core_engine_new, except the gauges at the end.  The names are DRBD's own. */
struct core_counters {
    uint64_t read_sectors, written_sectors;  /* backing disk */
    uint64_t sent_sectors, received_sectors; /* peer */
    uint64_t al_writes, bm_writes;
    uint64_t application_requests;         /* the export's, and those that the peer passed on from its own */
    uint64_t resync_sectors;               /* in sync again, or compared, since the last start of a resync or verify */
    uint64_t resync_same_sectors;          /* of these, equal by their checksums */
    uint64_t resync_thin_sectors;          /* of these, zeroes that were not sent */
    uint64_t mended_sectors;               /* that our disk could not read, and has again from the peer */
    uint64_t out_of_sync_bits;             /* gauge, 4 KiB each */
    uint32_t upper_pending, lower_pending; /* gauges: export requests and backing disk operations in flight */
    uint32_t pending, unacked;             /* gauges: sent and not acked; received and not yet acked */
    uint32_t unstable;                     /* gauge: transfer log entries not known stable on the peer */
    uint32_t clients;                      /* gauge */
    uint32_t resync_in_flight_sectors;     /* gauge, target or verifying: asked for and not yet written or compared */
    uint64_t verify_left_sectors;          /* gauge */
    uint64_t turns, enters;                /* engine loop turns, io system calls */
};
