/* digest.h - CRC-32C, by the processor's own instruction where it has one (chosen at run time).
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef CSRC_DIGEST_H
#define CSRC_DIGEST_H

#include <stdint.h>

/* seed: 0 begins; the result of one call goes on as the seed of the next. */
uint32_t digest_crc32c(uint32_t seed, const void *data, uint64_t length_bytes);

#endif
