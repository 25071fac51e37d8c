/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What the loader sets before the programs are verified: one object serves
 * every node and mode, and the verifier removes the branches that are dead.
 */
#ifndef FAIRLEAD_CONFIG_H
#define FAIRLEAD_CONFIG_H

#include "abi.h"

volatile const __u8 xdp_native;		/* XDP encapsulates and decapsulates itself */
volatile const __u8 complete_checksums; /* native on veth: L4 sums may be partial */
volatile const __u8 csum_ipv6_flag;	/* kernel knows BPF_F_IPV6 in l4_csum_replace */
volatile const __be16 geneve_port;

/* This node's InternalIPs, IPv4 mapped; zero where it has none of the family. */
volatile const __u64 self_v4_hi, self_v4_lo, self_v6_hi, self_v6_lo;

/* The device's MAC address in memory order; 0 where it has none. */
volatile const __u64 own_mac;

volatile const __u32 uplink_mtu;
volatile const __u16 mss_clamp_v4, mss_clamp_v6;

/* SipHash keys: of the flow table, and of the wire (the first signs, both are accepted). */
volatile const __u64 flow_key0, flow_key1;
volatile const __u64 wire_key0, wire_key1;
volatile const __u64 other_key0, other_key1;
volatile const __u8 has_other_key;

volatile const __u32 flow_mask; /* buckets - 1 */

/* Lookup tables by size index: slots, lines at rest, lines in transition. */
volatile const __u32 table_slots[LB_SIZES_MAX];
volatile const __u32 table_lines[LB_SIZES_MAX];
volatile const __u32 table_transition_lines[LB_SIZES_MAX];

/* For the userspace datapath: where the interface's sockets begin, and which it is. */
volatile const __u32 socket_base, uplink_ifindex;

/* For tests: time stands still at test_tick. */
volatile const __u8 test_clock;
__u32 test_tick;

/* Set by XDP when a driver has no room for metadata; TC then decides by itself. */
__u32 metadata_missing;

#endif
