// SPDX-License-Identifier: Apache-2.0

package main

// reasonMeanings say what a reason means, as a clause after its name. Reasons
// that no client's TCP or UDP packet can have from the network are here too, for
// counters show them.
var reasonMeanings = map[string]string{
	// pass
	"not_ip":         "no IP packet",
	"other_mac":      "the frame is for another machine",
	"not_vip":        "the destination is no VIP",
	"left":           "the service is left to kube-proxy",
	"conntracked":    "kube-proxy has the connection from the time before the service was taken over, and keeps it",
	"neighbor":       "neighbor discovery about a VIP, which the agent that announces it answers",
	"foreign_tunnel": "Geneve on Fairlead's port, but not Fairlead's",
	"not_reply":      "leaves, and comes from no Pod of a service here",
	"no_flow":        "comes from a Pod of a service, but belongs to no connection through a VIP",
	// drop
	"malformed":         "lengths in it contradict each other",
	"headers":           "IPv6 extension headers that are too many, or that route it elsewhere",
	"fragment":          "a later fragment whose first one was not seen",
	"martian":           "its source is an address or port that nobody has",
	"proto":             "a VIP takes TCP, UDP and ICMP only",
	"icmp":              "ICMP to a VIP that is neither a ping nor about a connection",
	"icmp_orphan":       "an ICMP error about a connection that nobody knows",
	"tunnel_error":      "a router could not forward a packet between nodes; this one was about that",
	"unknown_port":      "the VIP has no service on this port",
	"source_range":      "the client is in none of the service's loadBalancerSourceRanges",
	"no_local_backends": "externalTrafficPolicy is Local, and only other nodes have ready backends",
	"stale_table":       "the lookup table is being replaced at this moment; the client sends again",
	"ttl":               "no hop left to live",
	"too_big":           "too long for the way to the other node",
	"no_node":           "the chosen node is not known here, or has no address of a family that this node has",
	"bad_option":        "Fairlead's Geneve option, but of another version or form",
	"bad_mac":           "another node's packet with a wrong MAC: not of this cluster's key, or forged",
	"congested":         "a router on the way between nodes marked congestion, and the client's packet cannot carry the mark",
	"unknown_service":   "another node sent it for a service port that this node does not know",
	"not_local":         "it has gone all the way, and its backend is not on this node",
	"flows_full":        "the place for its record is full of established connections",
	"flows_busy":        "another CPU wrote its record at the same moment",
	"ports":             "no free port to tell the Pod's connections of this client apart",
	"rate":              "the answer is above the limit of answers per second",
	"no_agent":          "the userspace datapath has no agent that runs it",
	"error":             "a kernel helper failed",
	// encap
	"encap_home":  "its home is another node, which decides whose connection it is",
	"encap_past":  "nobody here knows the connection, and the slot had another home before: that one is asked first",
	"encap_owner": "another node has registered itself as the connection's owner",
	// steer
	"steer_past":  "sent on to an earlier home of its slot",
	"steer_home":  "no earlier home knew it: back to its home",
	"steer_owner": "sent on to the node that registered itself as owner",
	// deliver
	"mine":     "the connection has a record here, which names its Pod",
	"new":      "begins a connection on its home's Pod",
	"affinity": "begins a connection on the Pod that the client is remembered for",
	"judge":    "no record, and no beginning of a connection: the kernel of the Pod judges, by a SYN cookie or with a RST",
	"related":  "an ICMP error about a connection, translated for its Pod",
	// answer
	"echo":           "the VIP answers a ping",
	"refused":        "the service has no backend: the VIP itself refuses",
	"packet_too_big": "the VIP itself says which length fits",
	// reply
	"translated": "a Pod's reply, which gets the VIP as its source",
}
