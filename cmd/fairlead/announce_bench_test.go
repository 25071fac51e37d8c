// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/fairlead/fairlead/announce"
	"github.com/fairlead/fairlead/announce/ability"
)

// BenchmarkElectAll elects among 100 nodes for 1,000 VIPs: anew, as after a change
// of members, and with the elections of before, as after a change of endpoints.
func BenchmarkElectAll(b *testing.B) {
	var candidates []announce.Candidate
	var live []string
	told := map[string]ability.Told{}
	for i := range 100 {
		name := fmt.Sprintf("node%d", i)
		candidates, live = append(candidates, announce.Candidate{Node: name}), append(live, name)
		meta, err := ability.Ability{Version: "7"}.Append(nil, name)
		if err != nil {
			b.Fatal(err)
		}
		if told[name], err = ability.Parse(name, meta); err != nil {
			b.Fatal(err)
		}
	}
	plan, since := announce.Plan{}, map[netip.Addr]string{}
	for i := range 1000 {
		addr := netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})
		plan.VIPs = append(plan.VIPs, announce.VIP{Addr: addr, L2: &announce.L2{Key: addr, Candidates: candidates}})
		since[addr] = "7"
	}
	b.Run("anew", func(b *testing.B) {
		for b.Loop() {
			electAll(plan, live, told, since, nil)
		}
	})
	before := electAll(plan, live, told, since, nil)
	b.Run("again", func(b *testing.B) {
		for b.Loop() {
			electAll(plan, live, told, since, before)
		}
	})
}
