// SPDX-License-Identifier: Apache-2.0

package dataplane

// held is what the datapath holds in one place. The zero value is "nothing".
type held[V comparable] struct {
	value V
	state heldState
}

type heldState uint8

const (
	absent  heldState = iota
	unsure            // a write failed: it may have taken effect or not
	present           // holds value
)

// put writes the value unless it is known to be there.
func (h *held[V]) put(v V, write func() error) error {
	if h.state == present && h.value == v {
		return nil
	}
	*h = held[V]{v, unsure}
	if err := write(); err != nil {
		return err
	}
	h.state = present
	return nil
}

// drop removes the value unless it is known not to be there.
func (h *held[V]) drop(remove func() error) error {
	if h.state == absent {
		return nil
	}
	h.state = unsure
	if err := remove(); err != nil {
		return err
	}
	*h = held[V]{}
	return nil
}

// mirror is what the datapath holds under many keys.
type mirror[K, V comparable] map[K]held[V]

func (m mirror[K, V]) put(k K, v V, write func() error) error {
	h := m[k]
	err := h.put(v, write)
	m[k] = h
	return err
}

func (m mirror[K, V]) drop(k K, remove func() error) error {
	h := m[k]
	if err := h.drop(remove); err != nil {
		m[k] = h
		return err
	}
	delete(m, k)
	return nil
}
