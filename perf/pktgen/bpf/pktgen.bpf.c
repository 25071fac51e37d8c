//go:build ignore
/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Makes frames from a template, each with another source, and sends them out
 * of a device. It is run by BPF_PROG_TEST_RUN with live frames. The kernel
 * hands used pages back as their last reader left them, so every frame is
 * written whole.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#define FRAME_MAX 128
#define FIRST_PORT 1024

/* Set before the load. */
volatile const __u32 ifindex;
volatile const __u32 frame_len;
volatile const __u8 frame_v4; /* else IPv6 */
volatile const __u8 frame_udp; /* else TCP */
volatile const __u8 vary_port;
volatile const __u32 source_net; /* the low 32 bits of the source, host order */
volatile const __u32 source_bits; /* so many of them vary */
volatile const __u32 seed;
/* Sums of the template with its source, source port and checksums as zero. */
volatile const __u32 ip_sum, l4_sum;

/* The template; Go fills it in. */
__u8 frame[FRAME_MAX];

__u64 limit; /* frames to be sent in all */
__u64 sent;

static __always_inline __u16 checksum(__u32 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}

/* A permutation of the numbers of source_bits bits: odd factors and shifts to
 * the right lose nothing. So 2^source_bits frames have as many sources.
 */
static __always_inline __u32 permute(__u32 n)
{
	__u32 mask = source_bits >= 32 ? 0xffffffff : (1U << source_bits) - 1;
	__u32 shift = source_bits / 2 + 1;

	n = (n + seed) * 0x9e3779b1 & mask;
	n ^= n >> shift;
	n = n * 0x85ebca6b & mask;
	return n ^ n >> shift;
}

static __always_inline __u16 port_of(__u32 n)
{
	n = (n ^ seed) * 0x9e3779b1;
	n ^= n >> 15;
	n *= 0x85ebca6b;
	return FIRST_PORT + (n >> 8) % (0x10000 - FIRST_PORT);
}

SEC("xdp")
int pktgen(struct xdp_md *ctx)
{
	const __u32 ip_len = frame_v4 ? sizeof(struct iphdr) : sizeof(struct ipv6hdr);
	const __u32 l4 = sizeof(struct ethhdr) + ip_len;
	const __u32 check = l4 + (frame_udp ? 6 : 16);
	__u32 source, ports, sum;
	void *data, *data_end;
	__be16 port = 0;

	if (sent >= limit)
		return XDP_DROP;
	if (bpf_xdp_store_bytes(ctx, 0, frame, frame_len))
		return XDP_ABORTED;
	data = (void *)(long)ctx->data;
	data_end = (void *)(long)ctx->data_end;
	if (data + check + 2 > data_end)
		return XDP_ABORTED;
	source = bpf_htonl(source_net | permute(sent));
	if (vary_port)
		port = bpf_htons(port_of(sent));
	else
		port = *(__be16 *)(data + l4);
	sum = (source & 0xffff) + (source >> 16);
	*(__be32 *)(data + l4 - (frame_v4 ? 8 : 20)) = source;
	*(__be16 *)(data + l4) = port;
	if (frame_v4)
		*(__u16 *)(data + sizeof(struct ethhdr) + 10) = checksum(ip_sum + sum);
	ports = checksum(l4_sum + sum + port);
	*(__u16 *)(data + check) = frame_udp && !ports ? 0xffff : ports;
	sent++;
	return bpf_redirect(ifindex, 0);
}
