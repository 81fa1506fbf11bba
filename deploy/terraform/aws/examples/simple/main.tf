# A pair in a VPC that exists, with one guest that the VPC's clients reach on port 6379.

terraform {
  required_version = ">= 1.5.0"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 6.33.0"
    }
  }
}

provider "aws" {
  region = "us-east-1"
}

variable "vpc_id" {
  type = string
}

variable "route_table_id" {
  type = string
}

variable "packages" {
  type = list(object({ url = string, sha256 = string }))
}

module "pair" {
  source = "../.."

  name                  = "redis"
  vpc_id                = var.vpc_id
  zone_ids              = ["use1-az1", "use1-az2"]
  subnet_cidrs          = ["10.0.250.0/28", "10.0.250.16/28"]
  subnet_route_table_id = var.route_table_id
  route_table_ids       = [var.route_table_id]
  guest_addresses       = { redis1 = "10.99.0.11" }
  guest_ingress         = [{ protocol = "tcp", from_port = 6379, to_port = 6379, cidr = "10.0.0.0/16" }]
  packages              = var.packages
}

output "status_command" {
  value = module.pair.status_command
}
