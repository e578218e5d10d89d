package provider

import (
	"context"
	"fmt"
	"net/http"
)

// Document reads a public document of a provider, such as its metadata or its keys:
// one GET under the rules of every other request (https, addresses judged when dialled,
// no redirect), of an answer of 1 MiB at most. Errors name the host alone.
func (c *Client) Document(ctx context.Context, url string) ([]byte, error) {
	r, err := c.request(ctx, http.MethodGet, url, http.Header{}, nil)
	if err != nil {
		return nil, err
	}
	o := c.send(r)
	if o.Failure != "" {
		return nil, fmt.Errorf("document at %s: no answer: %s", r.URL.Host, o.Failure)
	}
	body, ok := decompress(o.Header, o.Body)
	if o.Status != http.StatusOK || o.Short || !ok {
		return nil, fmt.Errorf("document at %s: HTTP status %d, or not whole", r.URL.Host, o.Status)
	}
	return body, nil
}
