/* core_api.h - the one border between the data plane and the control plane.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * cffi reads this file as its cdef, byte for byte, so it holds plain declarations and `#define N 64` only.
 *
 * Orders go down, facts come up.  Every function that takes a `token` puts one order into a bounded ring and returns
 * at once: 0, -EAGAIN (ring full: drain the facts, try again) or -EINVAL.  The engine thread carries orders out
 * strictly in the order given.  An order with a token other than 0 is answered by exactly one CORE_FACT_DONE with that
 * token, when its effect is complete.  All functions but core_engine_counters are called from one thread.
 *
 * Results are 0 or a negative errno.  A `sector` is 512 bytes.  Times are milliseconds. */

#define CORE_PAYLOAD_MAX 512 /* bytes of the largest control packet; a longer one loses the peer before it is read */
#define CORE_FACT_BATCH 64

typedef struct core_engine core_engine;

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
    uint32_t al_extents;      /* hot extents at most; 0: no activity log (al-updates no) */
    uint32_t al_sequence;     /* number of the first transaction to write; the ring on disk is initialised */
    uint32_t flush;           /* 1: disk-flushes yes */
    uint64_t bm_offset_bytes; /* on md_fd */
    uint64_t bm_bytes;        /* room for the bitmap, a multiple of 4096 */
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
};

/* Where a write goes besides the local disk. */
enum core_replication {
    CORE_REPLICATE_NONE = 0,       /* nowhere: its bits are set, durable by the activity log, before the reply */
    CORE_REPLICATE_PEER = 1,       /* to the peer, acknowledged by the wire protocol in force */
    CORE_REPLICATE_OUT_OF_SYNC = 2 /* its bits are set and the peer is told so (WFBitMapS, Ahead) */
};
/* Where a read is served from. */
enum core_reads {
    CORE_READS_LOCAL = 0,
    CORE_READS_IN_SYNC = 1, /* Inconsistent: locally where no bit is set, else from the peer */
    CORE_READS_PEER = 2,    /* Diskless */
    CORE_READS_NONE = 3     /* no data accessible: -EIO */
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
#define CORE_ACCEPT_READS 2  /* DATA_REQUEST: our disk is UpToDate */
#define CORE_ACCEPT_RESYNC 4 /* RS_DATA_REQUEST, CSUM_RS_REQUEST: we are SyncSource (a paused source included) */
#define CORE_ACCEPT_BITMAP 8 /* BITMAP, COMPRESSED_BITMAP: WFBitMapS or WFBitMapT */
#define CORE_ACCEPT_OUT_OF_SYNC 16

enum core_socket { CORE_SOCKET_DATA = 0, CORE_SOCKET_META = 1 };

enum core_fact_type {
    CORE_FACT_DONE = 1,   /* token, result */
    CORE_FACT_PACKET = 2, /* socket, command, volume, payload; from the data socket: reading has stopped */
    CORE_FACT_PEER_LOST =
        3, /* result = enum core_lost; a = writes held for want of an ack, b = writes not known stable */
    CORE_FACT_FIRST_WRITE = 4, /* the gate CORE_GATE_FIRST_WRITE has closed */
    CORE_FACT_BITMAP_RECEIVED =
        5, /* the peer's whole bitmap is merged into ours; a = bits set now; reading has stopped */
    CORE_FACT_RESYNC_DONE =
        6, /* we are target: no bit left that can be mended, data flushed, bitmap written; a = bits left */
    CORE_FACT_DISK_FAILED =
        7, /* result = -errno, a = sector, b = enum core_disk_op; undecided writes wait for core_detach */
    CORE_FACT_PEER_DISK_FAILED = 8, /* a NEG_ACK or NEG_DREPLY came; a = sector */
    CORE_FACT_CLIENTS = 9           /* a = export clients in transmission now; b = their number ever */
};
enum core_lost {
    CORE_LOST_CLOSED = 1,
    CORE_LOST_BROKEN = 2,
    CORE_LOST_PING = 3,
    CORE_LOST_TIMEOUT = 4,
    CORE_LOST_PROTOCOL = 5,
    CORE_LOST_ORDERED = 6 /* core_peer_disconnect */
};
enum core_disk_op { CORE_DISK_READ = 0, CORE_DISK_WRITE = 1, CORE_DISK_FLUSH = 2, CORE_DISK_METADATA = 3 };

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
    uint64_t resync_sectors;               /* in sync again since the last core_resync_start */
    uint64_t out_of_sync_bits;             /* gauge, 4 KiB each */
    uint32_t upper_pending, lower_pending; /* gauges: export requests and backing disk operations in flight */
    uint32_t pending, unacked;             /* gauges: sent and not acked; received and not yet acked */
    uint32_t unstable;                     /* gauge: transfer log entries not known stable on the peer */
    uint32_t clients;                      /* gauge */
    uint32_t resync_in_flight_sectors;     /* gauge, target: asked for and not yet written */
    uint64_t turns, enters;                /* engine loop turns, io system calls */
};

int core_engine_new(const struct core_options *options, core_engine **engine);
int core_engine_start(core_engine *engine);
int core_engine_stop(core_engine *engine); /* closes all descriptors it owns; waits for disk operations under way */
void core_engine_free(core_engine *engine);
int core_engine_event_fd(core_engine *engine);
const char *core_engine_io_name(core_engine *engine); /* "io_uring" or "threads" */
uint32_t core_engine_drain(core_engine *engine, struct core_fact *facts, uint32_t count);
void core_engine_counters(core_engine *engine, struct core_counters *counters);

int core_attach(core_engine *engine, uint64_t token, const struct core_disk *disk); /* loads the bitmap */
int core_detach(core_engine *engine, uint64_t token); /* writes waiting for a failed disk complete by their other leg */
int core_resize(core_engine *engine, uint64_t token, uint64_t size_sectors); /* before the export opens only */
int core_keep_disk(core_engine *engine);             /* after DISK_FAILED of a read or write: on-io-error pass_on */
int core_flush(core_engine *engine, uint64_t token); /* backing disk: all completed writes are stable */
int core_bitmap_set(core_engine *engine, uint64_t token, uint64_t sector, uint64_t sectors); /* out of sync; RAM */
int core_bitmap_clear(core_engine *engine, uint64_t token, uint64_t sector, uint64_t sectors);
int core_bitmap_write(core_engine *engine, uint64_t token); /* flush the data, then write changed pages, durable */
int core_al_retire(core_engine *engine, uint64_t token); /* every extent out, on disk too; nothing may be in flight */

int core_peer_connect(core_engine *engine, uint64_t token, const struct core_peer *peer); /* takes both descriptors */
int core_peer_disconnect(core_engine *engine,
                         uint64_t token); /* says what is queued, then closes; CORE_FACT_PEER_LOST follows */
int core_peer_send(core_engine *engine, uint32_t socket, uint16_t command, const uint8_t *payload, uint32_t length);
int core_peer_resume(core_engine *engine); /* read on after a packet fact */
int core_peer_accept(core_engine *engine, uint32_t accept);
int core_release(core_engine *engine,
                 uint64_t token); /* after PEER_LOST: mark what is unstable, complete what is held */

int core_replicate(core_engine *engine, uint32_t replication, uint32_t protocol); /* protocol 1 A, 2 B, 3 C */
int core_reads(core_engine *engine, uint32_t reads);
int core_gate(core_engine *engine, uint32_t gate); /* OPEN lets held requests go */

int core_bitmap_send(core_engine *engine, uint64_t token,
                     uint32_t use_rle); /* answered when the last packet is queued */
int core_resync_start(core_engine *engine,
                      uint32_t target); /* 1: we are target, ask for blocks; 0: source, mark in sync by acks */
/* 0 KiB/s: no limit.  In flight: asked for at once (target), or read and sent at once (source); 0: as before. */
int core_resync_rate(core_engine *engine, uint32_t rate_kib_s, uint32_t in_flight_sectors);
int core_resync_stop(core_engine *engine, uint64_t token); /* answered when no resync write is in flight */

int core_export_open(core_engine *engine, uint64_t token, const char *name, uint32_t read_only);
int core_export_client(core_engine *engine, int32_t fd); /* an accepted stream socket; taken over */
/* As core_export_client, for our own kernel device: not counted as a client, in facts and counters.  in_transmission 1:
 * nothing is negotiated (the kernel's nbd). */
int core_export_device(core_engine *engine, int32_t fd, uint32_t in_transmission);
int core_export_close(core_engine *engine, uint64_t token); /* no new requests; answered when none is in flight */

uint32_t core_crc32c(uint32_t seed, const uint8_t *data, uint64_t length); /* seed and result inverted: 0 begins */
