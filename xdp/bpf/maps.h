/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The maps. Sizes marked 1 are set by the loader. All are pinned by name. */
#ifndef FAIRLEAD_MAPS_H
#define FAIRLEAD_MAPS_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "abi.h"

struct lb_line {
	__u32 generation;
	__u16 slots[LB_LINE_SLOTS];
};
_Static_assert(sizeof(struct lb_line) == LB_LINE_SIZE, "one cache line");

struct lb_addr {
	__u8 addr[16];
};

struct lb_flow_bucket {
	struct lb_flow ways[LB_FLOW_WAYS];
};

/* VIP, port, protocol to the service's index; port and protocol 0: the VIP itself. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1);
	__type(key, struct lb_service_key);
	__type(value, __u32);
} services SEC(".maps");

/* One record a service port. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct lb_service);
} service_records SEC(".maps");

/* Regions of lines: the slots of a lookup table, then its list of backends. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct lb_line);
} lookup_tables SEC(".maps");

/* One entry an address and port, of all nodes. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct lb_backend);
} backends SEC(".maps");

/* Address and port of a backend on this node to its index: what a reply is known by. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1);
	__type(key, struct lb_backend_key);
	__type(value, __u32);
} local_backends SEC(".maps");

/* Which backends belong to a service, by their names on the wire. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1);
	__type(key, struct lb_endpoint_key);
	__type(value, struct lb_endpoint);
} endpoints SEC(".maps");

/* The clients that a service admits. */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1);
	__type(key, struct lb_range_key);
	__type(value, __u8);
} source_ranges SEC(".maps");

/* The peers; 0 is this node and stays empty. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, LB_NODES_MAX);
	__type(key, __u32);
	__type(value, struct lb_node);
} nodes SEC(".maps");

/* Flows that this node owns. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct lb_flow_bucket);
} flows SEC(".maps");

/* A peer's address to its index in nodes. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, LB_NODES_MAX);
	__type(key, struct lb_addr);
	__type(value, __u32);
} node_ids SEC(".maps");

/* First fragments of late, for those that follow. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, LB_FRAGMENTS_MAX);
	__type(key, struct lb_fragment_key);
	__type(value, struct lb_fragment_ports);
} fragments SEC(".maps");

/* Of the userspace datapath, by socket_base and queue. */
struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__uint(max_entries, LB_SOCKETS_MAX);
	__type(key, __u32);
	__type(value, __u32);
} sockets SEC(".maps");

/* Packets by enum lb_reason. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, LB_R_MAX);
	__type(key, __u32);
	__type(value, __u64);
} counters SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct lb_service_stats);
} service_stats SEC(".maps");

/* What userspace counts, one row a loop. Programs leave both alone. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, LB_QUEUES_MAX);
	__type(key, __u32);
	__type(value, struct lb_loop_counters);
} loop_counters SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct lb_service_stats);
} loop_service_stats SEC(".maps");

/* Tokens for answers that we make up: RST, unreachable. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct lb_bucket);
} answer_tokens SEC(".maps");

/* Written once by the loader that makes the maps. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct lb_identity);
} identity SEC(".maps");

#endif
