/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Completing a partial L4 checksum (RFC 1071), for native XDP on veth-like
 * devices: there a local sender leaves only the pseudo header's sum, and the
 * mark that says so is lost when the frame is sent on.
 */
#ifndef FAIRLEAD_CHECKSUM_H
#define FAIRLEAD_CHECKSUM_H

#include "encap.h"

#define LB_L4_OFFSET_MAX 256 /* Ethernet, our encapsulation, IP with options or extension headers */

/* Adds a block of constant size, the helper's and the verifier's wish. */
#define LB_SUM_BLOCK(size)                                                              \
	do {                                                                            \
		if (left & (size)) {                                                    \
			if (cursor + (size) > data_end)                                 \
				return -1;                                              \
			sum = bpf_csum_diff(NULL, 0, cursor, (size), (__u32)sum);       \
			cursor += (size);                                               \
		}                                                                       \
	} while (0)

/* The unfolded sum over left bytes, which a frame of at most 4 KiB has; < 0 on an error. */
static __always_inline __s64 sum_bytes(void *cursor, void *data_end, __u32 left)
{
	__s64 sum = 0;

	for (__u32 i = 0; i < 7; i++) {
		if (i >= left >> 9)
			break;
		if (cursor + 512 > data_end)
			return -1;
		sum = bpf_csum_diff(NULL, 0, cursor, 512, (__u32)sum);
		cursor += 512;
	}
	LB_SUM_BLOCK(256);
	LB_SUM_BLOCK(128);
	LB_SUM_BLOCK(64);
	LB_SUM_BLOCK(32);
	LB_SUM_BLOCK(16);
	LB_SUM_BLOCK(8);
	LB_SUM_BLOCK(4);
	if (left & 2) {
		if (cursor + 2 > data_end)
			return -1;
		sum += *(__u16 *)cursor;
		cursor += 2;
	}
	if (left & 1) {
		if (cursor + 1 > data_end)
			return -1;
		sum += *(__u8 *)cursor;
	}
	return sum;
}

/* Completes the checksum of the packet if it is partial; 0 if it cannot. A
 * complete one whose value happens to equal the pseudo header's sum is left as
 * it is: summing it gives the very value that is there.
 */
LB_GLOBAL int checksum_complete(struct xdp_md *ctx, const struct lb_pkt *pkt)
{
	void *data = (void *)(long)ctx->data;
	void *data_end = (void *)(long)ctx->data_end;
	__u32 l4_len, l4;
	__u16 pseudo, full;
	__be16 *check;
	__s64 sum;

	if (!pkt)
		return 0;
	l4_len = pkt->len - (pkt->l4 - pkt->l3);
	l4 = opaque(pkt->l4);
	/* Who fragments has to complete the checksum before, and ICMP has none that is partial. */
	if (pkt->fragment || pkt->related)
		return 1;
	if (l4 > LB_L4_OFFSET_MAX)
		return 0;
	check = data + l4 + (pkt->proto == IPPROTO_TCP ? 16 : 6);
	if ((void *)(check + 1) > data_end)
		return 0;
	pseudo = fold64(pseudo_sum(pkt, pkt->proto, l4_len));
	if (*check != pseudo)
		return 1;
	if (l4_len > 4095)
		return 0;
	sum = sum_bytes(data + l4, data_end, l4_len);
	if (sum < 0)
		return 0;
	/* With the field's own value in it, the sum over segment and pseudo
	 * header is all ones for a complete checksum.
	 */
	if (fold64(sum + pseudo) == 0xffff)
		return 1;
	full = ~fold64(sum);
	if (!full && pkt->proto == IPPROTO_UDP)
		full = 0xffff;
	*check = full;
	return 1;
}

#endif
