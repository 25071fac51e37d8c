// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
)

// firewallRules are what a CNI and a careful administrator leave on a node:
// Pods may be reached and may speak, what conntrack finds INVALID may not, and
// what leaves the Pod network is masqueraded. %[1]s and %[2]s are the node's
// own Pod networks, %[3]s and %[4]s those of the cluster.
const firewallRules = `
table inet fairlead-lab {
	chain forward {
		type filter hook forward priority filter; policy drop;
		ct state invalid counter drop
		ct state established,related accept
		ip saddr %[3]s accept
		ip daddr %[3]s accept
		ip6 saddr %[4]s accept
		ip6 daddr %[4]s accept
	}
	chain postrouting {
		type nat hook postrouting priority srcnat; policy accept;
		ip saddr %[1]s ip daddr != %[3]s counter masquerade
		ip6 saddr %[2]s ip6 daddr != %[4]s counter masquerade
	}
}
`

// setFirewall installs the rules with nft.
func (n *Node) setFirewall() error {
	cidrs := n.PodCIDRs()
	cmd := exec.CommandContext(context.Background(), "nft", "-f", "-")
	cmd.Stdin = strings.NewReader(fmt.Sprintf(firewallRules, cidrs[0], cidrs[1], PodNet4, PodNet6))
	_, err := n.OutputWith(cmd)
	return err
}
