/* checksum.h - the digests that administrators choose: verify-alg, csums-alg, data-integrity-alg.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * CRC-32C is our own; MD5 and SHA are OpenSSL's, with a context per digest that is made with the set.  OpenSSL 3.0
 * makes a new state, some hundred bytes, whenever such a context begins anew: the one allocation that a block can cost,
 * and CRC-32C costs none. */
#ifndef CSRC_CHECKSUM_H
#define CSRC_CHECKSUM_H

#include <stdbool.h>
#include <stdint.h>

#include "core.h"

#define CHECKSUM_BYTES_MAX 64u

struct checksum_set;

int checksum_set_new(struct checksum_set **set); /* 0 or -ENOMEM */
void checksum_set_free(struct checksum_set *set);
/* False: no such digest, or one that this host's OpenSSL does not do (MD5 under FIPS rules). */
bool checksum_is_known(const struct checksum_set *set, uint32_t digest);
uint32_t checksum_bytes(uint32_t digest); /* 0 for CORE_DIGEST_NONE */
/* Writes checksum_bytes(digest) bytes as they travel: CRC-32C lowest byte first, as the kernel's shash stores it. */
void checksum_of(struct checksum_set *set, uint32_t digest, const void *data, uint64_t length_bytes, uint8_t *out);
bool checksum_matches(struct checksum_set *set, uint32_t digest, const void *data, uint64_t length_bytes,
                      const uint8_t *expected);

#endif
