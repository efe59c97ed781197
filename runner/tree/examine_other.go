//go:build unix && !linux

package tree

import "errors"

// Sight is what can be seen of a tree.
type Sight struct{ Proc, Lists, Others bool }

// Sight tells that nothing can be seen.
func (*Tree) Sight() Sight { return Sight{} }

// Pins tells why nobody can be sure whom a signal reaches.
func Pins() error {
	return errors.New("between the end of the program and the signal to its group nothing keeps another group from taking its number")
}
