terraform {
  required_version = ">= 1.5.0"

  required_providers {
    aws = {
      source = "hashicorp/aws"
      # The first with cpu_options.nested_virtualization.
      version = ">= 6.33.0"
    }
  }
}
