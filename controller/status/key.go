// SPDX-License-Identifier: Apache-2.0

package status

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"log/slog"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// The Secret of the key that authenticates packets between nodes.
const (
	WireKeySecret = "fairlead-wire-key"
	wireKeyField  = "key"
	wireKeyBytes  = 16
)

// EnsureWireKey creates the Secret with a random key where it is missing. One
// that is there is left as it is, whatever is in it: its owner may be rotating
// the key.
func EnsureWireKey(ctx context.Context, reader client.Reader, writer client.Writer, namespace string, log *slog.Logger) error {
	name := client.ObjectKey{Namespace: namespace, Name: WireKeySecret}
	err := reader.Get(ctx, name, &corev1.Secret{})
	switch {
	case err == nil:
		return nil
	case !apierrors.IsNotFound(err):
		return fmt.Errorf("read secret %s: %w", name, err)
	}
	key := make([]byte, wireKeyBytes)
	rand.Read(key) // never fails
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: namespace, Name: WireKeySecret,
			Labels: map[string]string{"app.kubernetes.io/name": "fairlead"},
		},
		Data: map[string][]byte{wireKeyField: []byte(hex.EncodeToString(key))},
	}
	switch err := writer.Create(ctx, secret); {
	case apierrors.IsAlreadyExists(err):
		return nil // another controller was faster
	case err != nil:
		return fmt.Errorf("create secret %s: %w", name, err)
	}
	log.Info("made a key for packets between nodes", "secret", name)
	return nil
}
