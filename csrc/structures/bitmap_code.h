/* bitmap_code.h - the packed bitmap of the wire (P_COMPRESSED_BITMAP, RLE_VLI_Bits, protocol 90 and later).
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Payload: one byte (bits 0-3 code = 2, bits 4-6 pad bits in the last byte, bit 7 the first run is of set bits), then
 * run lengths of alternating value as variable-length integers in a little-endian bit stream.  Golden captures hold
 * examples. */
#ifndef CSRC_BITMAP_CODE_H
#define CSRC_BITMAP_CODE_H

#include <stdint.h>

#include "bitmap.h"

/* Packs runs from *bit on into payload (room bytes, header byte included).  Moves *bit behind the last run packed.
 * Returns the payload's length, or 0: plain words are shorter here (as 8.4 decides), *bit unchanged. */
uint32_t bitmap_code_pack(const struct bitmap *bitmap, uint64_t *bit, uint8_t *payload, uint32_t room);
/* Merges a payload whose first run begins at *bit; moves *bit.  -EPROTO: malformed, or past the end. */
int bitmap_code_merge(struct bitmap *bitmap, uint64_t *bit, const uint8_t *payload, uint32_t length);

#endif
