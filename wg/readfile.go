package wg

import "wg-multihome/fwmark/regular"

// maxFile bounds what is read of a configuration file, in bytes.
const maxFile = 4 << 20

// ReadFile reads a device's configuration file. Where there is none, that is an
// fs.ErrNotExist.
func ReadFile(path string) (File, error) {
	text, err := regular.Read(path, maxFile)
	if err != nil {
		return File{}, err
	}
	return ParseFile(path, text)
}
