// SPDX-License-Identifier: Apache-2.0

package l2

import (
	"fmt"
	"net/netip"
	"testing"
	"time"
)

func manyAnswers(n int) (answers []Answer) {
	for i := range n {
		answers = append(answers, Answer{VIP: netip.AddrFrom4([4]byte{198, 51, byte(i >> 8), byte(i)}), Interfaces: []string{"eth0"}})
	}
	return answers
}

// What one more VIP beside the others costs, and the answer to one question.
func BenchmarkBook(b *testing.B) {
	for _, n := range []int{1, 1000} {
		answers := manyAnswers(n)
		b.Run(fmt.Sprintf("sync/%d", n), func(b *testing.B) {
			c := newClocked(time.Second, eth0)
			c.sync(c.now, answers)
			c.due(c.now)
			for i := 0; b.Loop(); i++ {
				c.sync(c.now, answers[:n-i%2])
				c.due(c.now)
			}
		})
		b.Run(fmt.Sprintf("question/%d", n), func(b *testing.B) {
			c := newClocked(time.Second, eth0)
			c.sync(c.now, answers)
			frame := question(answers[n/2].VIP)
			b.ReportAllocs()
			for b.Loop() {
				if len(c.frame(c.now, eth0.Index, true, frame)) != 1 {
					b.Fatal("no answer")
				}
			}
		})
	}
}
