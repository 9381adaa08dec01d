/* io_sim.h - io.h in a simulated world (csrc/sim/); for tests, no way of the product leads here.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef CSRC_IO_SIM_H
#define CSRC_IO_SIM_H

#include <stdint.h>

struct io;
struct sim_world;

int io_new_sim(struct sim_world *world, uint32_t node, struct io **io);
uint32_t io_sim_node(const struct io *io);
uint64_t io_sim_deadline_ns(const struct io *io); /* when the engine wants to be called at the latest */
void io_sim_forget(struct io *io);                /* whatever is under way never ends */

#endif
